"""The services of Flotilla: one package each, and what they share in `services.common`."""
