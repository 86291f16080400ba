"""Tools of operators: reconcile, verify, rebuild, renew, import of journals."""
