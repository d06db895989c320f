"""Delivery: the port, the limiter, the transport, and one module per destination."""
