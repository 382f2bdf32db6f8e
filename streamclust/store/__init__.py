"""What survives a restart: models, results, positions; every durable write goes through here."""
