"""Budgets that several processes share: what lends to them, and what asks it."""
