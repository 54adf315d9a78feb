#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention in turns with tessera_attention_benchmark, on the same shapes: their ratios.

Benchmarks are named as there: forward/f32/D128/S2048/causal/threads:1. Each round times both in turns, so that a
machine whose speed drifts disturbs both alike; what is printed is the median of the rounds' ratios, with the least and the
largest. One thread is timed in CPU time, several in wall time. PyTorch is called as suits it best: contiguous [batch,
heads, rows, width], statistics not returned. Before each call of decode a GiB is read, as our benchmark does to measure the
memory: else a cache of keys that fits the processor's would be measured.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as functional

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
HEADS = 4  # of the dense benchmarks
DECODE_KEY_HEADS = 8
DENSE = re.compile(r"(forward|backward)/(f32|bf16|f16)/D(\d+)/S(\d+)/(full|causal)/threads:(\d+)$")
DECODE = re.compile(r"decode/(f32|bf16|f16)/D(\d+)/S(\d+)/G(\d+)/bhsd/threads:(\d+)$")
DEFAULT_FILTER = r"^(forward|backward)/(f32|bf16)/|^decode/.*/bhsd/"


def dense_variants(match):
    """Name of a way to ask PyTorch -> a function that does."""
    direction, dtype, width, rows, mask, _ = match.groups()
    backward, causal = direction == "backward", mask == "causal"
    query, key, value, grad = (torch.randn(1, HEADS, int(rows), int(width)).to(DTYPES[dtype]) for _ in range(4))
    if not backward:
        return {"": lambda: functional.scaled_dot_product_attention(query, key, value, is_causal=causal)}
    operands = [tensor.requires_grad_() for tensor in (query, key, value)]
    out = functional.scaled_dot_product_attention(*operands, is_causal=causal)
    return {"": lambda: torch.autograd.grad(out, operands, grad, retain_graph=True)}


def decode_variants(match):
    dtype, width, keys, group, _ = match.groups()
    width, keys, group = int(width), int(keys), int(group)
    heads = DECODE_KEY_HEADS * group
    query = torch.randn(1, heads, 1, width).to(DTYPES[dtype])
    key, value = (torch.randn(1, DECODE_KEY_HEADS, keys, width).to(DTYPES[dtype]) for _ in range(2))
    attention = functional.scaled_dot_product_attention
    if group == 1:
        return {"": lambda: attention(query, key, value)}

    def repeated(tensor):
        return tensor.repeat_interleave(group, dim=1)

    return {
        "enable_gqa": lambda: attention(query, key, value, enable_gqa=True),
        "repeated keys": lambda: attention(query, repeated(key), repeated(value)),
        # The heads of a group as so many rows of one head: what who knows the kernel would write.
        "heads as rows": lambda: attention(query.view(1, DECODE_KEY_HEADS, group, width), key, value).view(query.shape),
    }


def seconds_of(call, threads, least_seconds, before=lambda: None):
    """Median time of a call, of at least three and of as many as `least_seconds` hold; `before` each call is not timed."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times = []
    end = time.perf_counter() + least_seconds
    while len(times) < 3 or time.perf_counter() < end:
        before()
        begin = clock()
        call()
        times.append(clock() - begin)
    return statistics.median(times)


def names_of(benchmark, wanted):
    command = [benchmark, "--benchmark_list_tests", f"--benchmark_filter={wanted}"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode != 0:
        sys.exit(f"{benchmark} failed: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split() if DENSE.match(name) or DECODE.match(name)]


def our_seconds(benchmark, name, least_seconds):
    """Median time of our kernel; a string tells why there is none."""
    command = [benchmark, f"--benchmark_filter=^{re.escape(name)}$", f"--benchmark_min_time={least_seconds}",
               "--benchmark_format=json"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {run.stderr.strip()}")
    entry = json.loads(run.stdout)["benchmarks"][0]
    return entry["error_message"] if entry.get("error_occurred") else entry["median_ms"] * 1e-3


def compare(name, options):
    """For each way to ask PyTorch: its times and ours, round by round. A string tells why there are none."""
    match = DENSE.match(name) or DECODE.match(name)
    threads = int(match.groups()[-1])
    torch.set_num_threads(threads)
    variants = dense_variants(match) if match.re is DENSE else decode_variants(match)
    elsewhere = torch.ones(1 << 28 if match.re is DECODE else 0)
    rounds = {variant: [] for variant in variants}
    with torch.set_grad_enabled(name.startswith("backward/")):
        for call in variants.values():
            call()
        for _ in range(options.rounds):
            ours = our_seconds(options.benchmark, name, options.seconds)
            if isinstance(ours, str):
                return ours
            for variant, call in variants.items():
                rounds[variant].append((seconds_of(call, threads, options.seconds, elsewhere.sum), ours))
    return rounds


def product_gflops(dtype):
    """What PyTorch's matrix product reaches on one thread: what its attention is made of."""
    size = 1024
    torch.set_num_threads(1)
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    torch.mm(left, right)
    return 2e-9 * size**3 / seconds_of(lambda: torch.mm(left, right), 1, 0.2)


def has_amx():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return "amx_tile" in file.read()
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", required=True, help="path of tessera_attention_benchmark")
    parser.add_argument("--filter", default=DEFAULT_FILTER, help="which benchmarks: a regular expression (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a round times each side (%(default)s)")
    options = parser.parse_args()

    amx = "AMX is there, and PyTorch may use it for bf16" if has_amx() else "no AMX"
    print(f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), {platform.machine()}, "
          f"{os.cpu_count()} cores, {amx}")
    print("Its matrix products on one thread, GFLOP/s: "
          + ", ".join(f"{name} {product_gflops(DTYPES[name]):.0f}" for name in ("f32", "bf16")))
    print(f"{'benchmark':47} {'PyTorch is asked by':19} {'theirs ms':>9} {'ours ms':>9} {'ratio':>6}  least-largest")
    for name in names_of(options.benchmark, options.filter):
        rounds = compare(name, options)
        if isinstance(rounds, str):
            print(f"{name:47} not run: {rounds}", flush=True)
            continue
        for variant, times in rounds.items():
            theirs, ours = (statistics.median(side) * 1e3 for side in zip(*times))
            ratios = [their / our for their, our in times]
            print(f"{name:47} {variant:19} {theirs:9.2f} {ours:9.2f} {statistics.median(ratios):6.2f}"
                  f"  {min(ratios):.2f}-{max(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
