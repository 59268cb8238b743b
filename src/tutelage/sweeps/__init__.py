"""Any grid of settings x seeds on any environment: run here or on a cluster, and compared."""
