#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/params.h>
