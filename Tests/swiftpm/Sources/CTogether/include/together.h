/* Requests that the shared pool has had, as C sees it; negative: an error. */
long long together_submitted(void);
/* Makes a request by it; the HTTP status, negative: an error. */
int together_perform(const char *url);
