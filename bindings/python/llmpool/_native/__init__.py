"""How libllmpool is reached: everything that knows of the library, and nothing above it."""
