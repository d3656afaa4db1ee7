#!/usr/bin/env python3
"""The LoRA step of bench/step_bench.cc with PyTorch and Hugging Face PEFT.

    python3 -m venv build/peer && build/peer/bin/pip install torch transformers peft
    build/peer/bin/python bench/peer_torch.py [--folder build/minilm] [--steps 40] [--threads 2]

Same model, shape, rank, targets, optimizer and clipping; random weights serve as well as the
pretrained ones, so the folder only has to hold a config.json.
"""

import argparse
import json
import os
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel


class Classifier(torch.nn.Module):
    """One linear layer on the mean of the last hidden states, as Head::mean_pooled."""

    def __init__(self, encoder, hidden, labels):
        super().__init__()
        self.encoder = encoder
        self.classifier = torch.nn.Linear(hidden, labels)

    def forward(self, ids, mask):
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return self.classifier((hidden * weight).sum(1) / weight.sum(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=os.environ.get("GRAFT_MINILM", "build/minilm"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with open(os.path.join(args.folder, "config.json")) as f:
        config = BertConfig(**json.load(f))
    config._attn_implementation = args.attention
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    encoder = BertModel(config, add_pooling_layer=False)
    lora = LoraConfig(r=8, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"])
    model = Classifier(get_peft_model(encoder, lora), config.hidden_size, 2).train()

    head = list(model.classifier.parameters())
    rest = [p for p in model.encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": head, "lr": 1e-2}, {"params": rest, "lr": 5e-3}], weight_decay=0.01
    )
    ids = torch.randint(1, config.vocab_size, (args.batch, args.length))
    mask = torch.ones_like(ids)
    labels = torch.arange(args.batch) % 2

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(ids, mask), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head + rest, 1.0)
        optimizer.step()
        return loss.item()

    # As bench/measure.h: one thread by the processor time that it got, several by the wall.
    clock = time.process_time if args.threads == 1 else time.perf_counter
    for _ in range(3):
        step()
    seconds = []
    for _ in range(args.steps):
        start = clock()
        step()
        seconds.append(clock() - start)
    median = statistics.median(seconds)
    print(
        f"torch {torch.__version__}, {args.threads} threads, {args.attention}: "
        f"median {median:.4f} s/step (best {min(seconds):.4f}), "
        f"{args.batch * args.length / median:.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
