"""Sources of files: servers, package registries, hashes."""
