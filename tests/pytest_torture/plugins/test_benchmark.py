def test_speed(benchmark):
    assert benchmark(sum, [1, 2, 3]) == 6


def test_fails(benchmark):
    assert benchmark.pedantic(sum, args=([1],), rounds=1) == 2
