// Search results quote their pages, which takes a request for each; a page opened from a file may make none.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
