"""Adapters that put other HTTP libraries on llmpool. They see of it what transport.py has."""
