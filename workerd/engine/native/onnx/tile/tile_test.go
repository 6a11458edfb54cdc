package tile

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// product is what Multiply must give: the plain sum in double precision.
func product(c []float32, stride int, matrix []float32, rows, depth int, b []float32, offsets []int32, delta int) []float32 {
	want := append([]float32(nil), c...)
	for row := range rows {
		for column := range Columns {
			sum := float64(c[row*stride+column])
			for k, offset := range offsets {
				at := int(offset) + column
				if column >= half {
					at = int(offset) + delta + column - half
				}
				sum += float64(matrix[row*depth+k]) * float64(b[at])
			}
			want[row*stride+column] = float32(sum)
		}
	}
	return want
}

func near(a, b float32) bool {
	return math.Abs(float64(a-b)) <= 1e-4*(1+math.Abs(float64(b)))
}

func TestMultiplyIsTheProduct(t *testing.T) {
	t.Parallel()
	for name, multiply := range map[string]func([]float32, int, []float32, []float32, []int32, int){"chosen": Multiply, "plain": multiplyPlain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				number := func(i int) float32 { return float32(math.Sin(float64(i)*1.7)) * 2 }
				rows, depth := rapid.IntRange(1, Rows).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "depth")
				stride, delta := rapid.IntRange(Columns, 40).Draw(t, "stride"), rapid.IntRange(0, 30).Draw(t, "delta")
				length := rapid.IntRange(delta+half, 200).Draw(t, "length")
				length = max(length, delta+half)
				offsets := rapid.SliceOfN(rapid.Int32Range(0, int32(length-delta-half)), depth, depth).Draw(t, "offsets")
				matrix, b, c := make([]float32, rows*depth), make([]float32, length), make([]float32, Rows*stride)
				for _, values := range [][]float32{matrix, b, c} {
					for i := range values {
						values[i] = number(i + len(values))
					}
				}
				want := product(c, stride, matrix, rows, depth, b, offsets, delta)
				multiply(c, stride, Pack(matrix, rows, depth), b, offsets, delta)
				for i := range c {
					if !near(c[i], want[i]) {
						t.Fatalf("at row %d, column %d: got %v, want %v", i/stride, i%stride, c[i], want[i])
					}
				}
			})
		})
	}
}

func TestSiLU(t *testing.T) {
	t.Parallel()
	inputs := []float32{0, 1, -1, 0.5, -0.5, 20, -20, 88, -88, 1e4, -1e4, 1e-20, -1e-20}
	for i := range 2001 {
		inputs = append(inputs, float32(i-1000)/50)
	}
	got := append([]float32(nil), inputs...)
	SiLU(got)
	for i, x := range inputs {
		want := float64(x) / (1 + math.Exp(-float64(x)))
		if math.Abs(float64(got[i])-want) > 3e-7*math.Abs(want)+1e-30 {
			t.Errorf("SiLU(%v) = %v, want %v", x, got[i], want)
		}
	}
}

func BenchmarkMultiply(b *testing.B) {
	const depth = 288
	panel, values, c := make([]float32, Rows*depth), make([]float32, depth*Columns), make([]float32, Rows*Columns)
	offsets := make([]int32, depth)
	for k := range offsets {
		offsets[k] = int32(k * Columns)
	}
	for name, multiply := range map[string]func([]float32, int, []float32, []float32, []int32, int){"chosen": Multiply, "plain": multiplyPlain} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				multiply(c, Columns, panel, values, offsets, half)
			}
			b.ReportMetric(2*Rows*Columns*depth*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

func BenchmarkSiLU(b *testing.B) {
	x := make([]float32, 4096)
	for b.Loop() {
		SiLU(x)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/4096*1e9, "ns/number")
}
