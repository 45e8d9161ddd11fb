"""What HTTP looks like: CIMI resources, uploads, the services' messages, events, health."""
