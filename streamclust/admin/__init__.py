"""The commands of people who run daemons: models, clusters, the quarantine, publishing."""
