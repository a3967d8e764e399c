"""What a caller holds: the clients, and the answers that they stream."""
