#!/usr/bin/env python3
"""Memory of a LoRA step of LLaMA's shape with PyTorch and Hugging Face PEFT, above the loaded model.

    build/peer/bin/python bench/peer_memory.py [--batch 4] [--length 256] [--checkpointing]

The resident size before the first step is taken away from the largest during the steps.
"""

import argparse
import gc
import json

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def resident(field):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=args.layers,
        num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=2048,
        tie_word_embeddings=False, use_cache=False,
    )
    model = LlamaForCausalLM(config)
    lora = LoraConfig(r=8, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(model, lora).train()
    if args.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01)
    ids = torch.randint(1, config.vocab_size, (args.batch, args.length))
    gc.collect()

    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the largest size is counted from here on
    for _ in range(args.steps):
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    print(json.dumps({
        "what": "PyTorch + PEFT" + (", gradient checkpointing" if args.checkpointing else ""),
        "peak_over_model_mib": round((resident("VmHWM") - before) / 2**20),
    }))


if __name__ == "__main__":
    main()
