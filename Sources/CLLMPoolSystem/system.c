#include "lp_system.h"
