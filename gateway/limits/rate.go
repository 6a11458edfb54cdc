package limits

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is a limit: so many a second, and so many at once. The zero Rate is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

var errRate = errors.New("must be requests a second and requests at once, such as 50/200, or off")

// ParseRate reads a limit such as "50/200": 50 requests a second, 200 at once; "off" is none.
func ParseRate(text string) (Rate, error) {
	if text == "off" {
		return Rate{}, nil
	}
	first, second, _ := strings.Cut(text, "/")
	perSecond, err := strconv.ParseFloat(first, 64)
	if err != nil || !(perSecond >= 0.001 && perSecond <= 1e6) {
		return Rate{}, errRate
	}
	burst, err := strconv.Atoi(second)
	if err != nil || burst < 1 || burst > 1e6 {
		return Rate{}, errRate
	}
	return Rate{perSecond, burst}, nil
}

// String is the limit as ParseRate reads it.
func (r Rate) String() string {
	if r.unlimited() {
		return "off"
	}
	return fmt.Sprintf("%g/%d", r.PerSecond, r.Burst)
}

func (r Rate) unlimited() bool { return r.Burst == 0 }

// Batch is how many tokens a gateway takes at a time: what lasts for a quarter of a second, but no more than an eighth of all there are, since what one
// gateway has in hand no other can use.
func (r Rate) Batch() int {
	return max(1, int(math.Min(r.PerSecond/4, float64(r.Burst)/8)))
}

// pause is how long to leave an empty bucket alone: until a token is there, and then a little, so that hammering at it does not become hammering at the
// database.
func (r Rate) pause(busy time.Duration) time.Duration {
	const enough = 100 * time.Millisecond
	return max(busy-r.seconds(float64(r.Burst-1)), min(enough, r.seconds(float64(r.Batch()))))
}

// take takes up to wanted tokens from a bucket that is full in busy, and says when it is full then.
func (r Rate) take(wanted int, busy time.Duration) (granted int, after time.Duration) {
	busy = min(max(busy, 0), r.seconds(float64(r.Burst)))
	granted = min(wanted, int(float64(r.Burst)-busy.Seconds()*r.PerSecond+1e-6))
	return granted, busy + r.seconds(float64(granted))
}

// seconds is how long n tokens take to come.
func (r Rate) seconds(n float64) time.Duration {
	return time.Duration(n / r.PerSecond * float64(time.Second))
}
