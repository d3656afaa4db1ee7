#include "train/image_task.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/parallel.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// In an order that mixes classes and depends on names alone.
std::vector<Example> rows_of(const std::string& folder, const std::vector<std::string>& classes) {
  const ImageFolder found = list_images(folder);
  std::map<std::pair<uint64_t, std::string>, Example> sorted;
  for (const ImageFolder::Entry& entry : found.entries) {
    const std::string& name = found.classes[static_cast<size_t>(entry.label)];
    const auto known = std::ranges::find(classes, name);
    if (known == classes.end()) {
      throw FileError("{}: the class '{}' does not occur in training; its classes are: {}", folder,
                      name, fmt::join(classes, ", "));
    }
    Example x;
    x.id = name + "/" + fs::path(entry.path).filename().string();
    x.picture = entry.path;
    x.label = known - classes.begin();
    const uint64_t hash = task_hash("picture:" + x.id);
    sorted.emplace(std::pair(hash, x.id), std::move(x));
  }
  std::vector<Example> rows;
  for (auto& [key, x] : sorted) rows.push_back(std::move(x));
  return rows;
}

std::string sub_folder(const std::string& folder, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (fs::is_directory(folder + "/" + name)) return folder + "/" + name;
  }
  return {};
}

void refuse_options_of_text(const TaskOptions& o) {
  const std::pair<bool, const char*> given[] = {
      {!o.train.empty(), "--train"},
      {o.text_to_text, "--text-to-text"},
      {o.regression, "--regression"},
      {o.classes > 0, "--classes"},
      {!o.text_column.empty() || !o.text_pair_column.empty() || !o.label_column.empty(),
       "--text-column, --text-pair-column and --label-column"},
      {!o.prompt_column.empty() || !o.completion_column.empty(),
       "--prompt-column and --completion-column"},
      {!o.messages_column.empty() || !o.chat_template.empty(),
       "--messages-column and --chat-template"}};
  for (const auto& [is, option] : given) {
    if (is) throw UsageError("{} is for tasks of text, and this model reads pictures", option);
  }
}

}  // namespace

Task load_image_task(const std::string& folder, const TaskOptions& o) {
  refuse_options_of_text(o);
  Task task;
  task.name = fs::path(folder).lexically_normal().filename().string();
  if (task.name.empty()) task.name = fs::path(folder).lexically_normal().parent_path().filename();
  set_metric(task, o.metric);
  const std::string own = sub_folder(folder, {"train"}), train = own.empty() ? folder : own;
  task.labels = list_images(train).classes;
  task.classes = static_cast<int64_t>(task.labels.size());
  if (task.classes < 2)
    throw FileError("{}: expected a sub-folder for each of two or more classes, but there is one",
                    train);
  std::string dev = o.dev, test = o.test;
  if (!own.empty()) {
    if (dev.empty()) dev = sub_folder(folder, {"dev", "val", "validation", "valid"});
    if (test.empty()) test = sub_folder(folder, {"test"});
  }
  std::vector<Example> rows = rows_of(train, task.labels);
  if (dev.empty() && test.empty()) {
    for (Example& x : rows) {
      const TaskPart part = part_of(x.id);
      auto& to = part == TaskPart::test ? task.test : part == TaskPart::dev ? task.dev : task.train;
      to.push_back(std::move(x));
    }
  } else {
    task.train = std::move(rows);
    if (!dev.empty()) task.dev = rows_of(dev, task.labels);
    if (!test.empty()) task.test = rows_of(test, task.labels);
  }
  if (!o.also_test.empty()) {
    task.also_name = fs::path(o.also_test).filename().string();
    task.also = rows_of(o.also_test, task.labels);
  }
  if (task.train.empty()) throw FileError("{}: there are no training pictures", train);
  const auto size = static_cast<size_t>(o.train_size);
  if (size > 0 && task.train.size() > size) task.train.resize(size);
  return task;
}

void fill_pictures(std::span<const Example* const> rows, const ImageConfig& config,
                   Tensor& pixels) {
  const auto each = static_cast<size_t>(3 * config.height * config.width);
  const std::span<float> all = pixels.span<float>();
  std::exception_ptr failure;
  std::mutex one;
  parallel_for(static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
      try {
        fill_pixels(read_image(rows[r]->picture), config, all.subspan(r * each, each));
      } catch (...) {
        const std::lock_guard lock(one);
        if (failure == nullptr) failure = std::current_exception();
      }
    }
  });
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace graft
