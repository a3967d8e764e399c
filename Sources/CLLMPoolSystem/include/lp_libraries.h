/* lp_libraries.h - what has to be on the system. Included before all else: a compiler stops at a header that is missing
 * with its name, which says little to who builds a Swift package that depends on this one. */
#ifndef LLMPOOL_LP_LIBRARIES_H
#define LLMPOOL_LP_LIBRARIES_H

#if !__has_include(<curl/curl.h>)
#error "llmpool needs the headers of libcurl: apt-get install libcurl4-openssl-dev"
#endif
#if !__has_include(<nghttp2/nghttp2.h>)
#error "llmpool needs the headers of nghttp2: apt-get install libnghttp2-dev"
#endif
#if !__has_include(<openssl/ssl.h>)
#error "llmpool needs the headers of OpenSSL 3: apt-get install libssl-dev"
#endif

#endif
