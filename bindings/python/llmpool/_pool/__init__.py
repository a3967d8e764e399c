"""The pools of this process, and what they tell."""
