package clients_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/problem"
)

// httpDoor is an app that calls the gateway: every function as an rpc.
type httpDoor struct {
	url string
}

// values are the functions that return one value, which may be a list.
var values = []string{"orphaned_outputs", "get_completed_segments", "get_orchestrator_children"}

func (d *httpDoor) call(ctx context.Context, who caller, function string, with args) ([]row, error) {
	data, err := d.post(ctx, who, "/rest/v1/rpc/"+function, with)
	if err != nil {
		return nil, err
	}
	if slices.Contains(values, function) {
		one, err := rowOf(data)
		return []row{one}, err
	}
	return rowsOf(data)
}

func (d *httpDoor) post(ctx context.Context, who caller, path string, body args) ([]byte, error) {
	if body == nil {
		body = args{}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader(mustJSON(body)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+bearer(who))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimSpace(data)
	if response.StatusCode < http.StatusBadRequest {
		return data, nil
	}
	var said struct{ Code, Message, Details, Hint *string }
	if err := json.Unmarshal(data, &said); err != nil || said.Code == nil || said.Message == nil {
		return nil, fmt.Errorf("%s: status %d with %q, which is no error of ours", path, response.StatusCode, data)
	}
	if want := statusOf(*said.Code, who); response.StatusCode != want {
		return nil, fmt.Errorf("%s: status %d with code %s, want %d", path, response.StatusCode, *said.Code, want)
	}
	return nil, &refusal{Code: *said.Code, Message: *said.Message, Detail: text(said.Details), Hint: text(said.Hint)}
}

// statusOf is the status that belongs to a code.
func statusOf(code string, who caller) int {
	switch {
	case code == "42501" && who.role == "anon":
		return http.StatusUnauthorized
	case code == "42501":
		return http.StatusForbidden
	default:
		return problem.Status(code)
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// bearer is what a caller sends.
func bearer(who caller) string {
	switch {
	case who.bearer != "":
		return who.bearer
	case who.claims != nil:
		return signed(who.claims)
	case who.role == "anon":
		return anonKey
	default: // the service; and machine, for whom it does the same
		return serviceKey
	}
}

// signed makes a JWT with these claims, which ends in an hour.
func signed(claims json.RawMessage) string {
	all := args{}
	if err := json.Unmarshal(claims, &all); err != nil {
		panic(err)
	}
	all["exp"] = time.Now().Add(time.Hour).Unix()
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(mustJSON(all))
	mac := hmac.New(sha256.New, []byte(jwtSecret))
	mac.Write([]byte(token))
	return token + "." + encode(mac.Sum(nil))
}

// functionsDoor is an app or a worker that calls the functions of the spec, where there is one for the call, and everything else as an rpc.
type functionsDoor struct {
	httpDoor
}

// endpoints are the functions of the database that have an address under /functions/v1 which takes the same fields.
var endpoints = map[string]string{
	"create_task": "create_task", "calculate_task_cost": "calculate-task-cost", "claim_next_task": "claim_next_task", "complete_task": "complete_task",
	"process_completed_task": "process-completed-task", "fail_task": "fail_task", "cancel_task": "cancel-task",
}

func (d *functionsDoor) call(ctx context.Context, who caller, function string, with args) ([]row, error) {
	endpoint := endpoints[function]
	body := args{}
	for name, value := range with {
		// The address of the spec has the output's fields beside the task's id.
		if output, is := value.(args); is && name == "output" {
			maps.Copy(body, output)
			continue
		}
		body[name] = value
	}
	if endpoint == "" || !sendable(body) || with["worker_id"] == neverRegistered {
		return d.httpDoor.call(ctx, who, function, with)
	}
	data, err := d.post(ctx, who, "/functions/v1/"+endpoint, body)
	if err != nil {
		return nil, asPostgreSQL(err, function)
	}
	rows, err := rowsOf(data)
	for _, r := range rows {
		switch function {
		case "calculate_task_cost":
			r["value"] = r["cost"]
			delete(r, "cost")
		case "claim_next_task":
			r["id"] = r["task_id"]
			delete(r, "task_id")
			if who.bearer != "" {
				delete(r, "worker_id") // a token's worker is told the name that it gave itself
			}
		}
		delete(r, "public_url")
	}
	return rows, err
}

// sendable says whether the address of the spec takes these arguments: it reads ids before it asks the database, and knows no delay of a retry.
func sendable(body args) bool {
	if _, given := body["retry_delay"]; given {
		return false
	}
	if id, given := body["project_id"].(string); given && uuid.Validate(id) != nil {
		return false
	}
	_, isList := body["output"]
	return !isList
}

// asPostgreSQL gives the refusal of a role back the words of the other doors: /functions/v1 says in its own that a function is not for the caller.
func asPostgreSQL(err error, function string) error {
	if said, is := err.(*refusal); is && (strings.HasPrefix(said.Detail, "This function is not for") || strings.HasPrefix(said.Detail, "This needs a user or a token")) { //nolint:errorlint // made above
		return &refusal{Code: "42501", Message: "permission denied for function " + function}
	}
	return err
}
