/* Tables about a model for people: what trains, and what it weighs. */
#ifndef LCL_TRAIN_SUMMARY_H
#define LCL_TRAIN_SUMMARY_H

#include "model/model.h"

/* One line a part: parameters, how many of them train. */
void lcl_summary_print_trainable(const struct lcl_model *m);

#endif
