"""What llmpool.otel is made of: needs opentelemetry-api, and is imported by it alone."""
