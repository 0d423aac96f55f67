"""What a container may do, and what is remembered of it. Knows neither gRPC nor processes."""
