"""Kafka: clients behind one port, source, sink and the shared models."""
