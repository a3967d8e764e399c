/*
 * csystem.h - the C interfaces that Swift cannot import: variadic functions, macros, atomics on raw memory.
 * Typed static-inline shims only; nothing here decides anything.
 */
#ifndef LLMPOOL_CSYSTEM_H
#define LLMPOOL_CSYSTEM_H

#include "csystem_engine.h"
#include "csystem_transport.h"

#endif
