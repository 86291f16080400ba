"""`faregate dev`: an app, servers, a worker and a page for development, from one command."""
