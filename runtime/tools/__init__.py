"""Programs around a model: benchmark, calibration, demo."""
