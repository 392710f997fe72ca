"""What the service is compared to."""
