// Tasks of pictures in folders, one sub-folder per class.
#pragma once

#include <span>
#include <string>

#include "core/tensor.h"
#include "models/image.h"
#include "train/task.h"

namespace graft {

// FOLDER/CLASS/*.png|.jpg|.jpeg, of which a tenth each is for development and test, by hash of the
// names; or the same below FOLDER/train with dev (val, validation) and test beside it, or with what
// options.dev and options.test name. Throws FileError as list_images() does, and for a class that
// training does not show; UsageError for options that are of texts.
Task load_image_task(const std::string& folder, const TaskOptions& options);

// Reads the pictures of some rows into [rows, 3, height, width], on all threads. Throws FileError
// for one that is damaged or gone.
void fill_pictures(std::span<const Example* const> rows, const ImageConfig& config, Tensor& pixels);

}  // namespace graft
