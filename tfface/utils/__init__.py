"""Files, caches, plug-ins, results, log and progress."""
