"""The lecture's subjects as experiments: on a user's own network and data, with numbers."""
