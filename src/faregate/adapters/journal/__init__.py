"""The journal in local files: one for each process that serves without a decision."""
