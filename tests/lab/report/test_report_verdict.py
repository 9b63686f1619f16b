"""The verdict says what was gained, lost and not gained, and does not dress up chance."""

import math

import pytest
from report_fixtures import KEEP, exactly, latency, measured, run_result, sweep_result

from secateur.lab.report.verdict import accuracy_change, run_verdict
from secateur.lab.report.verdict_sweep import sweep_verdict


def with_pruned(result=None, **changes):
    """Return a run result whose pruned report has other values."""
    result = result or run_result()
    result["measure"]["pruned"].update(changes)
    return result


def said(lines):
    return " ".join(lines)


def test_what_was_removed_and_saved_is_gained():
    gained = said(run_verdict(run_result()).gained)
    assert "90.0 % of the target weights are gone, 10 times fewer: 5,020 of 50,200 are kept" in gained
    assert "9.32 times fewer over all parameters" in gained
    assert "gzipped file is 4.9 times smaller: 195 kB → 39.8 kB" in gained


def test_a_loss_is_said_in_points_against_the_fair_reference():
    lost = said(run_verdict(run_result(test=0.92, longer=0.97)).lost)
    assert "5.0 points of test accuracy were lost" in lost
    assert "same net trained as long without pruning (40 epochs)" in lost
    assert "97.0 % → 92.0 % of 360 test images" in lost


def test_nets_trained_for_different_times_are_not_said_to_be_trained_as_long():
    result = run_result(test=0.92, longer=0.97)
    result["accuracy"]["pruned"]["epochs"] = 55
    lost = said(run_verdict(result).lost)
    assert "same net trained without pruning for 40 epochs (the pruned one: 55)" in lost and "as long" not in lost


@pytest.mark.parametrize("control", ["scratch", "shuffle"])
def test_a_control_is_called_one_before_anything_else(control):
    result = run_result()
    result["settings"]["control"] = control
    verdict = run_verdict(result)
    first = verdict.first[0]
    assert verdict.headline.startswith("A control, not the method itself: 90.0 %")
    assert first.startswith("A control: new weights") and f"--control {control}" in first


def test_a_gain_of_accuracy_is_said_as_such():
    verdict = run_verdict(run_result(test=0.98, longer=0.95))
    assert "3.0 points of test accuracy were gained" in said(verdict.gained)
    assert verdict.lost == ["Nothing that was measured got worse."]
    assert "3.0 points of test accuracy gained" in verdict.headline


def test_a_difference_below_one_standard_error_is_noise():
    verdict = run_verdict(run_result(test=0.9694, longer=0.9722))
    assert "within the noise of 360 test images" in said(verdict.lost)
    assert "No measurable loss" in said(verdict.lost)
    assert "no measurable loss" in verdict.headline
    assert "accuracy" not in said(verdict.gained)


@pytest.mark.parametrize("sign", [-1, 1])
def test_noise_ends_at_one_standard_error_of_the_test_set(sign):
    error = math.sqrt(0.9 * 0.1 / 360)
    inside = accuracy_change(run_result(test=0.9 + sign * 0.45 * error, longer=0.9 - sign * 0.45 * error))
    outside = accuracy_change(run_result(test=0.9 + sign * 0.55 * error, longer=0.9 - sign * 0.55 * error))
    assert inside.judgement == "noise"
    assert outside.judgement == ("gain" if sign > 0 else "loss")
    assert inside.noise == pytest.approx(error)


def test_between_one_and_two_standard_errors_the_evidence_is_called_weak():
    assert "weak evidence" in said(run_verdict(run_result(test=0.957, longer=0.97)).lost)
    assert "weak evidence" not in said(run_verdict(run_result(test=0.92, longer=0.97)).lost)


def test_equal_accuracies_are_no_loss():
    assert "No test accuracy was lost" in said(run_verdict(run_result(test=0.97, longer=0.97)).lost)


def test_without_a_net_trained_as_long_the_dense_net_is_the_reference_and_that_is_said():
    verdict = run_verdict(run_result(longer=None, test=0.90))
    assert "against the dense net it was made from" in said(verdict.lost)
    assert "longer training" in said(verdict.remarks)


def test_without_test_accuracy_validation_stands_in_and_that_is_said():
    result = run_result()
    for row in result["accuracy"].values():
        row["test"] = None
    verdict = run_verdict(result)
    assert "validation accuracy" in said(verdict.lost)
    assert "no test accuracy" in said(verdict.remarks)


def test_without_any_accuracy_the_cost_is_called_unknown():
    result = run_result()
    for row in result["accuracy"].values():
        row.update(test=None, validation=None)
    verdict = run_verdict(result)
    assert "was not measured" in said(verdict.first)
    assert "unknown cost" in verdict.headline


def test_a_missed_target_is_said_first():
    short = {**exactly(KEEP, 0.9), "fc1.weight": 2100}
    result = run_result()
    result["measure"]["pruned"] = measured(short)
    first = said(run_verdict(result).first)
    assert "target was missed: a sparsity of 0.9" in first
    assert "less was removed than asked" in first
    assert run_verdict(run_result()).first == []


def test_a_shrunk_net_is_counted_against_the_dense_one():
    targets = {"weights": 5020, "kept": 5020, "sparsity": 0.0, "compression": 1.0}
    result = with_pruned(targets=targets, parameters={**targets, "weights": 5100, "kept": 5100})
    verdict = run_verdict(result)
    assert "90.0 % of the target weights are gone" in said(verdict.gained)
    assert verdict.first == []
    assert "zeros in a dense tensor" not in said(verdict.not_gained)


def test_a_run_that_pruned_nothing_says_so():
    result = run_result()
    result["settings"]["sparsity"] = 0.0
    result["measure"]["pruned"] = measured(target_sparsity=0.0)
    verdict = run_verdict(result)
    assert "Nothing was pruned" in said(verdict.not_gained)
    assert verdict.gained == ["Nothing that was measured got better."]
    assert verdict.headline.startswith("No target weight is gone")


def test_a_net_without_weights_is_called_dead():
    result = run_result()
    result["measure"]["pruned"] = measured(dict.fromkeys(KEEP, 0), target_sparsity=1.0)
    assert "no signal is left" in said(run_verdict(result).first)


def test_overlapping_latencies_are_not_faster_and_the_reason_is_given():
    not_gained = said(run_verdict(run_result()).not_gained)
    assert "Inference is not faster, there is no measurable change: 0.051 ms against 0.050 ms dense" in not_gained
    assert "zeros in a dense tensor do not make torch faster" in not_gained
    assert "uncompressed file is not smaller" in not_gained
    assert "only an engine that skips zeros gets by with 5,020" in not_gained


def test_a_median_below_is_still_no_gain_while_the_spreads_overlap():
    verdict = run_verdict(with_pruned(latency=latency(0.047)))
    assert "faster" not in said(verdict.gained)
    assert "no measurable change" in said(verdict.not_gained)


def test_faster_and_slower_beyond_the_spread_are_said():
    assert "Inference is 5 times faster" in said(run_verdict(with_pruned(latency=latency(0.010))).gained)
    slower = run_verdict(with_pruned(latency=latency(0.100)))
    assert "Inference is 2 times slower" in said(slower.lost)
    assert "inference is slower" in slower.headline


def test_latencies_taken_with_other_threads_are_not_compared():
    verdict = run_verdict(with_pruned(latency={**latency(0.010), "threads": 4}))
    assert "cannot be compared" in said(verdict.not_gained)
    assert "faster" not in said(verdict.gained)


def test_missing_measurements_are_said_not_guessed():
    not_gained = said(run_verdict(with_pruned(latency=None, macs=None, peak_memory_bytes=None)).not_gained)
    assert "Inference time was not measured" in not_gained
    assert "Multiply-accumulates were not counted" in not_gained
    assert "memory" not in not_gained


def test_a_larger_file_is_a_loss():
    lost = said(run_verdict(with_pruned(bytes={"dense": 422_000, "gzipped": 300_000})).lost)
    assert "uncompressed file is 2 times larger" in lost
    assert "gzipped file is 1.54 times larger" in lost


def test_warnings_and_notes_are_listed():
    result = with_pruned(notes=["BatchNorm was not folded"])
    result["warnings"] = ["fc3.weight collapsed"]
    verdict = run_verdict(result)
    assert verdict.warnings == ["fc3.weight collapsed"]
    assert "BatchNorm was not folded" in said(verdict.remarks)
    assert "The test split is the last 360 images." in verdict.remarks


def test_a_sweep_says_first_what_failed():
    sweep = sweep_result()
    sweep["failed"] = [{"cell": "gradual-s0.5-seed9", "error": "loss became NaN"}]
    assert "1 of 73 cells failed" in said(sweep_verdict(sweep).first)


def test_a_sweep_says_first_which_targets_were_missed():
    sweep = sweep_result()
    row = next(row for row in sweep["summary"] if row["method"] == "one-shot" and row["sparsity"] == 0.9)
    for cell in sweep["cells"]:
        if cell["method"] == "one-shot" and cell["sparsity"] == 0.9:
            cell["achieved"] = 0.82
    row["achieved"] = 0.82
    first = said(sweep_verdict(sweep).first)
    assert "one-shot" in first
    assert "0.82" in first


def test_a_sweep_names_no_winner_among_methods_that_chance_cannot_tell_apart():
    sweep = sweep_result()
    for row in sweep["summary"]:
        row.update(mean=0.95 + (0.001 if row["method"] == "gradual" else 0.0), std=0.01)
    verdict = sweep_verdict(sweep)
    text = said(verdict.gained + verdict.lost + verdict.remarks)
    assert "told apart" in text or "differ" in text


def test_a_sweep_without_a_reference_still_gets_a_verdict():
    sweep = sweep_result()
    for row in sweep["summary"]:
        row.update(reference_mean=None, reference_std=None)
    verdict = sweep_verdict(sweep)
    assert "no dense reference" in verdict.headline
    assert "No test accuracy was lost" not in said(verdict.lost)


def test_a_sweep_of_which_nothing_finished_claims_nothing():
    sweep = {**sweep_result(), "cells": [], "summary": [], "frontier": []}
    verdict = sweep_verdict(sweep)
    assert verdict.headline == "No cell of this sweep finished."
    assert verdict.gained + verdict.lost + verdict.not_gained == []


def test_a_lucky_row_beyond_a_loss_is_not_what_a_method_can_do():
    sweep = sweep_result({"gradual": "plain"})
    for row in sweep["summary"]:
        row.update(mean=0.80 if row["sparsity"] == 0.9 else 0.972, std=0.001)
    assert "gradual removes 80.0 % of the target weights" in said(sweep_verdict(sweep).gained)


def test_seeds_that_differ_wildly_do_not_hide_a_loss():
    sweep = sweep_result({"gradual": "plain"})
    for row in sweep["summary"]:
        row.update(mean=0.85, std=0.15)
    assert "no measurable loss" not in said(sweep_verdict(sweep).gained)


def scored(ahead, std=0.01, runs=3):
    """Return a sweep in which gradual's score is ahead of one-shot's."""
    sweep = sweep_result()
    sweep["scores"] = [
        {"method": "gradual", "mean": 0.9 + ahead, "std": std, "runs": runs},
        {"method": "one-shot", "mean": 0.9, "std": std, "runs": runs},
        {"method": "random", "mean": 0.5, "std": std, "runs": runs},
    ]
    return sweep


def test_the_score_names_a_winner_and_whether_seeds_could_explain_it():
    error = math.hypot(0.01, 0.01) / math.sqrt(3)
    clear, close = (sweep_verdict(scored(factor * error)).remarks[0] for factor in (1.1, 0.9))
    assert clear.startswith("By the score gradual is first with 0.9090, 0.0090 ahead of one-shot: more than the spread")
    assert "no more than the spread over seeds" in close
    assert f"{error:.4f}" in clear


def test_one_seed_is_no_evidence_for_a_winner():
    remark = sweep_verdict(scored(0.2, std=0.0, runs=1)).remarks[0]
    assert "with one seed it is not known whether that is chance" in remark
    assert "more than" not in remark


def test_equal_scores_are_level():
    assert "level with one-shot: no more than" in sweep_verdict(scored(0.0)).remarks[0]


def test_without_two_scores_there_is_no_winner():
    sweep = scored(0.1)
    sweep["scores"] = sweep["scores"][:1]
    assert "By the score" not in said(sweep_verdict(sweep).remarks)
    assert "By the score" not in said(sweep_verdict(sweep_result()).remarks)


def thresholded(layerwise, together, name="fc3.bias"):
    """Return a sweep of both ways to threshold; the arguments say what is left of the smallest target by seed."""
    sweep = sweep_result({"threshold": "one ranking", "threshold-layerwise": "one each"})
    for cell in sweep["cells"]:
        left = together if cell["method"] == "threshold" else layerwise
        share = 1 - cell["sparsity"]
        cell["smallest"] = {"name": name, "weights": 10, "kept": left(share, cell["seed"])}
    return sweep


def test_what_one_sparsity_for_each_tensor_does_to_the_smallest_is_said():
    verdict = sweep_verdict(thresholded(lambda share, _: round(10 * share), lambda share, _: 10))
    [text] = [line for line in verdict.remarks if "Layer-wise thresholding" in line]
    assert "of the 10 elements of fc3.bias it takes 5 at 0.5" in text
    assert "10 at 0.99" in text
    assert "one ranking over the whole model takes none. Test accuracy is" in text
    assert "does not explain" not in text


def test_a_smallest_target_that_both_lose_is_no_explanation():
    both = thresholded(lambda share, _: round(10 * share), lambda share, seed: round(10 * share) + (seed == 0))
    [text] = [line for line in sweep_verdict(both).remarks if "Layer-wise thresholding" in line]
    assert "takes 4 to 5" in text
    assert "Where both take as many, this tensor does not explain the difference." in text


def test_sweeps_that_did_not_record_the_smallest_target_do_not_explain():
    sweep = thresholded(lambda *_: 1, lambda *_: 10)
    for cell in sweep["cells"]:
        if cell["method"] == "threshold":
            del cell["smallest"]
    assert "Layer-wise thresholding" not in said(sweep_verdict(sweep).remarks)
    assert "Layer-wise thresholding" not in said(sweep_verdict(sweep_result()).remarks)
