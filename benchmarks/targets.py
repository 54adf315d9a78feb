#!/usr/bin/env python3
"""Holds a run of the attention benchmark against its targets: targets.py results.json [--failed]

results.json is what `tessera_attention_benchmark --benchmark_out=results.json --benchmark_out_format=json` writes. Ratios
between two benchmarks are those of their shares of the peak that was measured beside each, so that the machine's drift
between them cancels out.
--failed prints only the targets that are not met; the exit status is 1 where there are any.
"""
import argparse
import itertools
import json
import statistics
import sys


def counters_by_name(document):
    """Name of a benchmark -> its counters, medians over repetitions; those that did not run are left out."""
    runs = {}
    for entry in document["benchmarks"]:
        if entry.get("run_type") == "iteration" and not entry.get("error_occurred"):
            runs.setdefault(entry["run_name"], []).append(entry)
    return {
        name: {key: statistics.median(entry[key] for entry in entries)
               for key, value in entries[0].items() if isinstance(value, (int, float))}
        for name, entries in runs.items()
    }


def attention(direction, dtype, width, rows, mask, threads=1):
    return f"{direction}/{dtype}/D{width}/S{rows}/{mask}/threads:{threads}"


def rows_of(results, dot_products):
    """(target, benchmark, measured, least value wanted) for all that was run."""

    def share(name, counter="share_of_peak"):
        return results.get(name, {}).get(counter)

    def over(name, base, factor=1.0, counter="share_of_peak"):
        above, below = share(name, counter), share(base, counter)
        return None if above is None or below is None else factor * above / below

    shapes = list(itertools.product(["forward", "backward"], [128, 64], [2048, 4096]))
    for direction, width, rows in shapes:
        name = attention(direction, "f32", width, rows, "full")
        yield "f32 share of peak", name, share(name), 0.85 if width == 128 else 0.80
    if dot_products:  # without them bf16 is f32's arithmetic
        for (direction, width, rows), mask in itertools.product(shapes, ["full", "causal"]):
            name = attention(direction, "bf16", width, rows, mask)
            yield "bf16 over f32", name, over(name, attention(direction, "f32", width, rows, mask)), 1.75
    for (direction, width, rows), dtype in itertools.product(shapes, ["f32", "bf16", "f16"]):
        name = attention(direction, dtype, width, rows, "causal")
        visible = 2 * rows / (rows + 1)  # the full square over what the mask leaves
        yield "causal over full", name, over(name, attention(direction, dtype, width, rows, "full"), visible), 1.85
    for (direction, width, rows), dtype, mask in itertools.product(shapes, ["f32", "bf16", "f16"], ["full", "causal"]):
        name = attention(direction, dtype, width, rows, mask, 2)
        yield "two threads over one", name, over(name, attention(direction, dtype, width, rows, mask), 2), 1.85
    for name in sorted(results):
        if name.startswith(("sparse/", "indexer/", "loss/")) and name.endswith("/threads:2"):
            yield "two threads over one", name, over(name, name.replace("/threads:2", "/threads:1"), 2), 1.85
    for name in sorted(results):
        if name.startswith("decode/") and "/G1/" in name:
            yield "decode share of bandwidth", name, share(name, "share_of_bandwidth"), 0.85
    for name in sorted(results):
        # f16 is multiplied as floats: eight rows of it take longer than reading them even at the peak.
        if name.startswith(("decode/f32/", "decode/bf16/")) and "/G8/" in name and name.endswith("/threads:2"):
            single = name.replace("/G8/", "/G1/")
            yield "decode, gain of 8 heads a group", name, over(name, single, 8, "share_of_bandwidth"), 0.8 * 8
    for name in sorted(results):
        if name.startswith("sparse/"):
            yield "sparse proportionality", name, share(name, "proportionality"), 0.9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--failed", action="store_true", help="print only the targets that are not met")
    options = parser.parse_args()
    with open(options.results, encoding="utf-8") as file:
        document = json.load(file)
    results = counters_by_name(document)
    dot_products = document["context"].get("instruction_set") == "avx512_bf16"
    verdicts = {"yes": 0, "NO": 0, "busy": 0}
    print(f"{'target':32} {'measured':>8} {'wanted':>7} {'met':>4}  benchmark")
    for target, name, measured, wanted in rows_of(results, dot_products):
        if measured is None:
            continue
        # Other processes had the cores all the time: whatever was measured, it was not this kernel.
        busy = results[name].get("undisturbed", 1) == 0
        verdict = "busy" if busy else "yes" if measured >= wanted else "NO"
        verdicts[verdict] += 1
        if verdict == "NO" or not options.failed:
            print(f"{target:32} {measured:8.3f} {wanted:7.2f} {verdict:>4}  {name}")
    errors = {entry["run_name"]: entry["error_message"] for entry in document["benchmarks"] if entry.get("error_occurred")}
    for name, message in errors.items():
        print(f"not run: {name}: {message}")
    print(f"{verdicts['yes']} targets met, {verdicts['NO']} not met, {verdicts['busy']} to measure again on a less busy"
          f" machine; instruction set {document['context'].get('instruction_set')}")
    return 1 if verdicts["NO"] else 0


if __name__ == "__main__":
    sys.exit(main())
