package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

const (
	userEmail   = "you@example.com" // of the sample user; no mail is sent
	signInLimit = 20 * time.Second
	maxAnswer   = 1 << 20 // bytes
)

// seedUser signs the sample user in, or up in a database that has none, through the gateway's own door, and makes the token of a worker of theirs.
// In another database than before the other samples are to be made anew.
func (r *runner) seedUser(ctx context.Context) error {
	id, err := r.enter(ctx, "token?grant_type=password")
	if errors.Is(err, errRefused) {
		id, err = r.enter(ctx, "signup")
	}
	if errors.Is(err, errRefused) {
		return fmt.Errorf("this database has another home's sample user, %s: set DARKROOM_HOME to that home, or DATABASE_URL to a database of its own: %w", userEmail, err)
	}
	if err != nil {
		return fmt.Errorf("making the sample user: %w", err)
	}
	if id == r.state.UserID && r.state.WorkerToken != "" {
		return nil
	}
	r.state.UserID, r.state.ProjectID, r.state.TaskID, r.state.ByHandID, r.state.Drawn = id, uuid.Nil, uuid.Nil, uuid.Nil, nil
	token, err := r.db.CreateAccessToken(ctx, "worker", "sample", 0, id)
	if err != nil {
		return fmt.Errorf("making the sample token: %w", err)
	}
	r.state.WorkerToken = token.Token
	return r.saveState()
}

var errRefused = errors.New("the gateway refuses")

// enter asks for a session of the sample user, and returns their id.
func (r *runner) enter(ctx context.Context, door string) (uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, signInLimit)
	defer cancel()
	body, err := json.Marshal(map[string]string{"email": userEmail, "password": r.state.UserPassword})
	if err != nil {
		return uuid.Nil, fmt.Errorf("signing in: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.publicURL+"/auth/v1/"+door, bytes.NewReader(body))
	if err != nil {
		return uuid.Nil, fmt.Errorf("signing in: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Apikey", r.state.AnonKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return uuid.Nil, fmt.Errorf("signing in: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return uuid.Nil, fmt.Errorf("signing in: %w", err)
	}
	switch {
	case response.StatusCode == http.StatusBadRequest || response.StatusCode == http.StatusUnprocessableEntity:
		return uuid.Nil, fmt.Errorf("%w: %s", errRefused, data)
	case response.StatusCode != http.StatusOK:
		return uuid.Nil, fmt.Errorf("signing in: %s: %s", response.Status, data)
	}
	var session struct {
		User struct {
			ID uuid.UUID `json:"id"`
		} `json:"user"`
	}
	if err := json.Unmarshal(data, &session); err != nil {
		return uuid.Nil, fmt.Errorf("signing in: %w", err)
	}
	return session.User.ID, nil
}
