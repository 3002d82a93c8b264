"""What several tests share: small models, made files, inputs of kernels."""
