// Fine-tunes a sentence encoder with LoRA on twelve sentences and labels new ones: embed
// MODEL_FOLDER
#include <cstdio>
#include <exception>

#include "models/config.h"
#include "models/tokenizer.h"
#include "peft/adapter_files.h"
#include "train/task.h"
#include "train/trainer.h"

// id, label, text
const std::vector<graft::TaskRow> kTrain = {
    {"1", "kitchen", "Simmer the onions until they turn golden."},
    {"2", "kitchen", "Fold the egg whites into the batter."},
    {"3", "kitchen", "The soup needs a pinch of salt."},
    {"4", "kitchen", "Knead the dough for ten minutes."},
    {"5", "garden", "Prune the roses before the first frost."},
    {"6", "garden", "Sow the carrots in loose soil."},
    {"7", "garden", "Snails have eaten the young lettuce."},
    {"8", "garden", "Water the tomatoes early in the morning."},
    {"9", "workshop", "Sand the board along the grain."},
    {"10", "workshop", "Tighten the bolt with a wrench."},
    {"11", "workshop", "The drill slipped on the steel plate."},
    {"12", "workshop", "Glue the joint and clamp it overnight."},
};
const std::vector<graft::TaskRow> kNew = {
    {"13", "kitchen", "Whisk the cream with a little sugar."},
    {"14", "garden", "The hedge has to be trimmed in spring."},
    {"15", "workshop", "Measure twice before you saw the plank."},
};

int main(int argc, char** argv) try {
  const graft::ModelConfig model = graft::load_config(argc > 1 ? argv[1] : "build/minilm");
  const auto tokenizer = graft::load_tokenizer(model.folder);
  const graft::Task task = graft::make_task("places", kTrain, {}, kNew, *tokenizer);

  graft::TrainOptions options;
  options.steps = 30;
  options.batch = 6;
  const auto& lora = graft::peft::find_method("lora");
  graft::Trainer trainer(model, task, lora, {{"r", 4}}, options);
  const graft::TrainResult result = trainer.train();
  std::printf("%ld of %ld parameters trained, loss %.1e\n", result.trainable, result.total,
              result.final_loss);

  const graft::Predictions predicted = trainer.predict(task.test);
  for (size_t i = 0; i < kNew.size(); ++i) {
    const std::string& label = task.labels[static_cast<size_t>(predicted.classes[i])];
    std::printf("%-8s %s\n", label.c_str(), kNew[i].text_a.c_str());
  }
  graft::peft::save_adapter("places", lora, trainer.adapted().config, trainer.adapted().graph,
                            trainer.params(), model.folder);
} catch (const std::exception& e) {
  std::fprintf(stderr, "embed: %s\n", e.what());
  return 1;
}
