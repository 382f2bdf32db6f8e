"""Where events go: one sink a file, all under the port `stream.ports.Sink`."""
