"""What "python -m llmpool run" puts into PYTHONPATH."""
