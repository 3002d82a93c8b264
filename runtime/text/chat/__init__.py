"""Chat templates: rendered in a sandbox, their control tokens told apart from what people wrote."""
