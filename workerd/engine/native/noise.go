package native

import "math"

// normal returns the first normal numbers of a seed, which train/noise.py describes: the noise that a picture begins with.
func normal(seed int64, count int) []float32 {
	state := uint64(seed) //nolint:gosec // two's complement
	uniform := func() float64 {
		state += 0x9E3779B97F4A7C15
		z := state
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		return (float64(z>>11) + 0.5) / (1 << 53)
	}
	numbers := make([]float32, 0, count+1)
	for len(numbers) < count {
		u, v := uniform(), uniform()
		r, sin, cos := math.Sqrt(-2*math.Log(u)), math.Sin(2*math.Pi*v), math.Cos(2*math.Pi*v)
		numbers = append(numbers, float32(r*cos), float32(r*sin))
	}
	return numbers[:count]
}
