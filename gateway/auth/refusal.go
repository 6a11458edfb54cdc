package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
)

// refusal is an error in GoTrue's shape: auth-js reads error_code and msg.
type refusal struct {
	Status int    `json:"code"`
	Code   string `json:"error_code"` // one of auth-js's list in error-codes.d.ts, where that has one
	Msg    string `json:"msg"`

	Weak *weakness `json:"weak_password,omitempty"`

	retryAfter int // seconds; 0 for none
}

// weakness says what a password lacks.
type weakness struct {
	Reasons []string `json:"reasons"`
}

func (r *refusal) Error() string { return r.Code + ": " + r.Msg }

func refuse(status int, code, msg string) *refusal {
	return &refusal{Status: status, Code: code, Msg: msg}
}

// notServed is the answer to what GoTrue would do.
func notServed(what string) *refusal {
	return refuse(http.StatusNotFound, "not_supported", what+" is not served here; gateway/README.md says what is")
}

var (
	errWrongPassword = refuse(http.StatusBadRequest, "invalid_credentials", "Invalid login credentials")
	errNoSession     = refuse(http.StatusForbidden, "session_not_found", "Session from session_id claim in JWT does not exist")
	errNoRefresh     = refuse(http.StatusBadRequest, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
	errReused        = refuse(http.StatusBadRequest, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
	errSignInOff     = refuse(http.StatusUnprocessableEntity, "email_provider_disabled", "Email logins are disabled: the gateway has no DARKROOM_JWT_SECRET")
	errBusy          = &refusal{Status: http.StatusTooManyRequests, Code: "over_request_rate_limit", Msg: "Too many people sign in just now", retryAfter: 2}
)

// handle writes the error of a handler in GoTrue's shape.
func (d *Door) handle(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		if err == nil {
			return nil
		}
		known := refusalOf(err)
		if known.retryAfter > 0 {
			c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(known.retryAfter))
		}
		problem.Write(c, d.log, err, known.Status, known)
		return nil
	}
}

func refusalOf(err error) *refusal {
	known, found := errors.AsType[*refusal](err)
	switch {
	case found:
		return known
	case errors.Is(err, identity.ErrMissing):
		return refuse(http.StatusUnauthorized, "no_authorization", "This endpoint requires a Bearer token")
	case errors.Is(err, identity.ErrExpired):
		return refuse(http.StatusForbidden, "bad_jwt", "invalid JWT: token is expired")
	case errors.Is(err, identity.ErrInvalid):
		return refuse(http.StatusForbidden, "bad_jwt", "invalid JWT: unable to parse or verify signature")
	}
	p := problem.From(err)
	status := problem.Status(p.Code)
	if status >= http.StatusInternalServerError {
		return refuse(status, "unexpected_failure", p.Message)
	}
	msg := p.Message
	if p.Details != nil {
		msg = fmt.Sprintf("%s: %s", msg, *p.Details)
	}
	return refuse(status, "validation_failed", msg)
}
