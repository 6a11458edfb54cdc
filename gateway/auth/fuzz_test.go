package auth_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/auth"
)

var slogDiscard = slog.New(slog.DiscardHandler)

func handlerOf(door *auth.Door) http.Handler {
	e := echo.New()
	door.Routes(e)
	return e
}

// FuzzAuthBody sends bodies to every address that reads one. Whatever comes, the answer is JSON in GoTrue's shape and never a fault of ours, and nobody
// gets a session but by a right password.
func FuzzAuthBody(f *testing.F) {
	b := setup(f, nil)
	me := b.signUp("ada@example.com")
	paths := []string{"/token?grant_type=password", "/token?grant_type=refresh_token", "/signup", "/user", "/logout?scope=local", "/token?grant_type=" + "x"}
	for i := range paths {
		for _, seed := range []string{
			body("email", "ada@example.com", "password", "wrong horse battery"), body("refresh_token", strings.Repeat("a", 43)), body("email", "eve@example.com", "password", "short"),
			body("data", map[string]any{"a": []any{1, nil, "\x00"}}), `{"data":{"a":1e400}}`, `{"email":"a@b\u0000.c","password":"12345678"}`, `{"EMAIL":null,"email":{}}`,
			`[]`, `null`, `"x"`, `{`, `{"data":` + strings.Repeat("[", 200), "\xff", `{"data":{"\ud800":"\udfff"}}`, `{"password":"` + strings.Repeat("x", 100) + `"}`, "",
		} {
			f.Add(uint8(i), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		path := paths[int(which)%len(paths)]
		if strings.Contains(text, password) {
			t.Skip("the right password")
		}
		method, bearer := http.MethodPost, ""
		switch path {
		case "/user":
			method, bearer = http.MethodPut, me.access
		case "/logout?scope=local":
			bearer = "x"
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "/auth/v1"+path, strings.NewReader(text))
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		w := httptest.NewRecorder()
		b.web.ServeHTTP(w, r)
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s %q: %d %q", path, text, w.Code, w.Body)
		}
		switch {
		case w.Code == http.StatusOK && (path == "/user" || path == "/signup"):
		case w.Code < 400 || w.Code >= 500 || got["error_code"] == nil || got["msg"] == nil || got["code"] != float64(w.Code):
			t.Fatalf("%s %q: %d %s", path, text, w.Code, w.Body)
		}
	})
}
