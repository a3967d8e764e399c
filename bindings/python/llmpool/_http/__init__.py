"""Requests, answers and their parts in plain Python: nothing here needs the library."""
