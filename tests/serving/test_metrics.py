"""What Prometheus reads."""

from prometheus_client.parser import text_string_to_metric_families

from tests.serving.running import running


def test_requests_batches_and_digests_are_counted(example):
    with running(example) as server:
        for _ in range(3):
            server.recommend(["kettle"])
        server.post("/recommend", {"inputs": [["kettle"], ["teapot"]]})
        server.recommend(["kettle"], top_k=0)
        facts = server.state.live.served.facts
        reply = server.get("/metrics")

    assert reply.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }
    recommend = ("path", "/recommend")
    assert samples["cost_hf_requests_total", recommend, ("status", "200")] == 4
    assert samples["cost_hf_requests_total", recommend, ("status", "400")] == 1
    assert samples["cost_hf_request_seconds_count", recommend] == 5
    assert samples["cost_hf_request_seconds_bucket", ("le", "+Inf"), recommend] == 5
    assert samples["cost_hf_batch_size_sum",] == 5  # histories
    assert samples["cost_hf_queue_length",] == 0
    assert samples["cost_hf_reloads_total", ("outcome", "failed")] == 0
    assert samples["cost_hf_recommender_info", *sorted(facts.items())] == 1
    assert samples["cost_hf_catalog_items",] == 6
