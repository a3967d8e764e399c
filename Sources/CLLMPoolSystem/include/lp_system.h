/*
 * lp_system.h - the C interfaces that Swift cannot import: variadic functions, macros, atomics on raw memory.
 * Typed static-inline shims only; nothing here decides anything.
 */
#ifndef LLMPOOL_LP_H
#define LLMPOOL_LP_H

#include "lp_engine.h"
#include "lp_gate.h"
#include "lp_memory.h"
#include "lp_status.h"
#include "lp_transport.h"
#include "lp_unix.h"

#endif
