/* lp_transport.h - libcurl and OpenSSL without varargs and macros, and one field of the kernel's tcp_info. */
#ifndef LLMPOOL_LP_TRANSPORT_H
#define LLMPOOL_LP_TRANSPORT_H

#include "lp_libraries.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Certificates and CRLs in the store. */
static inline int lp_store_count(X509_STORE *store) {
  return sk_X509_OBJECT_num(X509_STORE_get0_objects(store));
}

/* ---- descriptors ---------------------------------------------------------- */

/* Bytes that lie there to be read; of a socket, those that its peer has not read yet. -1: there is no such count. */
static inline int lp_unread_bytes(int descriptor) {
  int bytes = 0;
  return ioctl(descriptor, FIONREAD, &bytes) == 0 ? bytes : -1;
}
static inline int lp_unsent_bytes(int descriptor) {
  int bytes = 0;
  return ioctl(descriptor, TIOCOUTQ, &bytes) == 0 ? bytes : -1;
}
static inline void lp_close_on_exec(int descriptor) {
  (void)fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}
/* 1 for a non-blocking socket of AF_UNIX without close-on-exec. */
static inline int lp_is_inherited_local_socket(int descriptor) {
  int domain = 0;
  socklen_t size = sizeof domain;
  int flags = fcntl(descriptor, F_GETFD);
  if (flags < 0 || (flags & FD_CLOEXEC) != 0 || (fcntl(descriptor, F_GETFL) & O_NONBLOCK) == 0) return 0;
  return getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* ---- libcurl: one shim per type of argument ------------------------------ */

static inline CURLcode lp_easy_set_long(CURL *easy, CURLoption option, long value) {
  return (curl_easy_setopt)(easy, option, value);
}
static inline CURLcode lp_easy_set_string(CURL *easy, CURLoption option, const char *value) {
  return (curl_easy_setopt)(easy, option, value);
}
static inline CURLcode lp_easy_set_list(CURL *easy, CURLoption option, struct curl_slist *value) {
  return (curl_easy_setopt)(easy, option, value);
}
static inline CURLcode lp_easy_set_pointer(CURL *easy, CURLoption option, void *value) {
  return (curl_easy_setopt)(easy, option, value);
}
static inline CURLcode lp_easy_set_open_socket(CURL *easy, curl_opensocket_callback callback, void *data) {
  CURLcode code = (curl_easy_setopt)(easy, CURLOPT_OPENSOCKETFUNCTION, callback);
  return code != CURLE_OK ? code : (curl_easy_setopt)(easy, CURLOPT_OPENSOCKETDATA, data);
}
static inline CURLcode lp_easy_set_close_socket(CURL *easy, curl_closesocket_callback callback, void *data) {
  CURLcode code = (curl_easy_setopt)(easy, CURLOPT_CLOSESOCKETFUNCTION, callback);
  return code != CURLE_OK ? code : (curl_easy_setopt)(easy, CURLOPT_CLOSESOCKETDATA, data);
}
static inline CURLcode lp_easy_set_write(CURL *easy, curl_write_callback callback) {
  return (curl_easy_setopt)(easy, CURLOPT_WRITEFUNCTION, callback);
}
static inline CURLcode lp_easy_get_long(CURL *easy, CURLINFO info, long *value_out) {
  return (curl_easy_getinfo)(easy, info, value_out);
}
static inline CURLcode lp_easy_get_socket(CURL *easy, CURLINFO info, curl_socket_t *value_out) {
  return (curl_easy_getinfo)(easy, info, value_out);
}
static inline CURLcode lp_easy_get_pointer(CURL *easy, CURLINFO info, void **value_out) {
  return (curl_easy_getinfo)(easy, info, value_out);
}
static inline CURLMcode lp_multi_set_long(CURLM *multi, CURLMoption option, long value) {
  return (curl_multi_setopt)(multi, option, value);
}
static inline CURLMcode lp_multi_set_socket(CURLM *multi, curl_socket_callback callback, void *data) {
  CURLMcode code = (curl_multi_setopt)(multi, CURLMOPT_SOCKETFUNCTION, callback);
  return code != CURLM_OK ? code : (curl_multi_setopt)(multi, CURLMOPT_SOCKETDATA, data);
}
static inline CURLMcode lp_multi_set_timer(CURLM *multi, curl_multi_timer_callback callback, void *data) {
  CURLMcode code = (curl_multi_setopt)(multi, CURLMOPT_TIMERFUNCTION, callback);
  return code != CURLM_OK ? code : (curl_multi_setopt)(multi, CURLMOPT_TIMERDATA, data);
}
/* Runs every handle and renews what is watched. Deprecated for everyday use because of that cost. */
static inline CURLMcode lp_multi_run_all(CURLM *multi, int *running_out) {
  CURLMcode (*run_all)(CURLM *, int *) = NULL;
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
  run_all = curl_multi_socket_all;
#pragma clang diagnostic pop
  return run_all(multi, running_out);
}
static inline long lp_auth_basic(void) {
  return (long)CURLAUTH_BASIC;
}
static inline CURLcode lp_message_result(const CURLMsg *message) {
  return message->data.result;
}

/* ---- OpenSSL: PEM in memory where it has functions for files ---------------- */

/* Nobody is asked for a passphrase on the terminal of the process. */
static inline int lp_no_passphrase(char *buffer, int size, int writes, void *data) {
  (void)buffer, (void)size, (void)writes, (void)data;
  return -1;
}

/* As SSL_CTX_load_verify_file: returns how many certificates and CRLs there were. */
static inline int lp_ctx_load_authorities(SSL_CTX *context, const void *bytes, int size) {
  X509_STORE *store = SSL_CTX_get_cert_store(context);
  BIO *bio = BIO_new_mem_buf(bytes, size);
  STACK_OF(X509_INFO) *parts = bio ? PEM_X509_INFO_read_bio(bio, NULL, lp_no_passphrase, NULL) : NULL;
  int count = 0;
  for (int i = 0; i < sk_X509_INFO_num(parts); i++) {
    X509_INFO *part = sk_X509_INFO_value(parts, i);
    if (part->x509 && X509_STORE_add_cert(store, part->x509)) count++;
    if (part->crl && X509_STORE_add_crl(store, part->crl)) count++;
  }
  sk_X509_INFO_pop_free(parts, X509_INFO_free);
  BIO_free(bio);
  return count;
}

/* As SSL_CTX_use_certificate_chain_file: 1 for success. */
static inline int lp_ctx_use_chain(SSL_CTX *context, const void *bytes, int size) {
  BIO *bio = BIO_new_mem_buf(bytes, size);
  X509 *certificate = bio ? PEM_read_bio_X509_AUX(bio, NULL, lp_no_passphrase, NULL) : NULL;
  int is_good = certificate && SSL_CTX_use_certificate(context, certificate) && SSL_CTX_clear_chain_certs(context);
  X509_free(certificate);
  while (is_good && (certificate = PEM_read_bio_X509(bio, NULL, lp_no_passphrase, NULL)) != NULL)
    if (!SSL_CTX_add0_chain_cert(context, certificate)) {
      X509_free(certificate);
      is_good = 0;
    }
  /* After the last there is none, which is how it ends. */
  unsigned long last = ERR_peek_last_error();
  if (is_good && (ERR_GET_LIB(last) != ERR_LIB_PEM || ERR_GET_REASON(last) != PEM_R_NO_START_LINE)) is_good = 0;
  if (is_good) ERR_clear_error();
  BIO_free(bio);
  return is_good;
}

/* As SSL_CTX_use_PrivateKey_file: 1 for success. */
static inline int lp_ctx_use_key(SSL_CTX *context, const void *bytes, int size) {
  BIO *bio = BIO_new_mem_buf(bytes, size);
  EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, lp_no_passphrase, NULL) : NULL;
  int is_good = key && SSL_CTX_use_PrivateKey(context, key);
  EVP_PKEY_free(key);
  BIO_free(bio);
  return is_good;
}

/* ---- OpenSSL: what is a macro in its headers ------------------------------ */

static inline int lp_ctx_set_min_version(SSL_CTX *context, int version) {
  return (int)SSL_CTX_set_min_proto_version(context, version);
}
static inline void lp_ctx_set_mode(SSL_CTX *context, long mode) {
  SSL_CTX_set_mode(context, mode);
}
static inline void lp_ctx_set_client_sessions(SSL_CTX *context) {
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
}
static inline void lp_ctx_no_renegotiation(SSL_CTX *context) {
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
}
static inline void lp_ctx_read_ahead(SSL_CTX *context) {
  SSL_CTX_set_read_ahead(context, 1);
}
static inline int lp_name_print(BIO *bio, const X509_NAME *name) {
  return X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
}
static inline int lp_ssl_set_server_name(SSL *ssl, const char *name) {
  return (int)SSL_set_tlsext_host_name(ssl, name);
}
static inline int lp_err_reason(unsigned long error) {
  return ERR_GET_REASON(error);
}
static inline int lp_err_library(unsigned long error) {
  return ERR_GET_LIB(error);
}
static inline void lp_bio_clear_retry(BIO *bio) {
  BIO_clear_retry_flags(bio);
}
static inline void lp_bio_retry_read(BIO *bio) {
  BIO_set_retry_read(bio);
}
static inline void lp_bio_retry_write(BIO *bio) {
  BIO_set_retry_write(bio);
}

/* ---- TCP ------------------------------------------------------------------- */

/*
 * tcpi_bytes_acked of the kernel's struct tcp_info. glibc's copy of the struct ends before that field and
 * <linux/tcp.h> cannot be included beside it, hence the offset, which is kernel ABI. Returns 0 where the
 * kernel's struct is too short or the descriptor is no TCP socket.
 */
static inline int lp_tcp_bytes_acked(int descriptor, uint64_t *bytes_out) {
  enum { OFFSET = 120 };
  unsigned char info[OFFSET + sizeof *bytes_out];
  socklen_t size = sizeof info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, &size) != 0 || size < sizeof info) return 0;
  memcpy(bytes_out, info + OFFSET, sizeof *bytes_out);
  return 1;
}

/* ---- the system -------------------------------------------------------------- */

/* EAI_ADDRFAMILY, which glibc hides without _GNU_SOURCE. */
enum { CSYSTEM_EAI_ADDRFAMILY = -9 };

/* A GNU extension that Swift does not see without _GNU_SOURCE. */
char *secure_getenv(const char *name);
static inline const char *lp_secure_getenv(const char *name) {
  return secure_getenv(name);
}

/* At most 15 bytes. */
static inline void lp_name_thread(const char *name) {
  prctl(PR_SET_NAME, name);
}

#endif
