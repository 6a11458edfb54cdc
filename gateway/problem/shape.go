package problem

import (
	"net/http"
	"strconv"
	"strings"
)

// Shape is the body of an error in the shape of the surface that a path belongs to, for what is refused before a door has seen the request. The doors
// shape what they refuse themselves.
func Shape(path string, status int, p *Error) any {
	switch {
	case strings.HasPrefix(path, "/storage/v1/"):
		return struct {
			*Error

			StatusCode string `json:"statusCode"`
			Title      string `json:"error"`
		}{p, strconv.Itoa(status), http.StatusText(status)}
	case strings.HasPrefix(path, "/realtime/v1/"):
		text := p.Message
		if p.Details != nil {
			text = *p.Details
		}
		return struct {
			*Error

			Text string `json:"error"`
		}{p, text}
	case strings.HasPrefix(path, "/auth/v1/"):
		name := p.Code
		if status == http.StatusTooManyRequests {
			name = "over_request_rate_limit" // as auth-js knows it
		}
		return struct {
			Code      int    `json:"code"`
			ErrorCode string `json:"error_code"`
			Msg       string `json:"msg"`
		}{status, name, p.Message}
	}
	return p
}
