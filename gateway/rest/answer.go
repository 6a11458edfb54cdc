package rest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// mediaSingle is the content type of one object.
const mediaSingle = "application/vnd.pgrst.object+json; charset=utf-8"

// number reads a count of PostgreSQL; otherwise for NULL.
func number(text []byte, otherwise int64) int64 {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// checkSingle refuses what is not one row, where one object was asked for.
func (r *request) checkSingle(rows int64) error {
	if !r.single || rows == 1 {
		return nil
	}
	return refuse(codeSingle, "Cannot coerce the result to a single JSON object", fmt.Sprintf("The result contains %d rows", rows), "")
}

// answerRows answers a read.
func (r *request) answerRows(answer result, w window) error {
	if answer.total >= 0 && w.offset > 0 && w.offset >= answer.total {
		r.contentRange(0, 0, answer.total)
		return refuse(codeRange, "Requested range not satisfiable",
			fmt.Sprintf("An offset of %d was requested, but there are only %d rows.", w.offset, answer.total), "")
	}
	if err := r.checkSingle(answer.rows); err != nil {
		return err
	}
	r.contentRange(w.offset, answer.rows, answer.total)
	status := http.StatusOK
	if answer.total > answer.rows && !w.whole {
		status = http.StatusPartialContent
	}
	return r.send(status, answer)
}

// contentRange says which rows an answer has, and of how many.
func (r *request) contentRange(offset, rows, total int64) {
	part, all := "*", "*"
	if rows > 0 {
		part = fmt.Sprintf("%d-%d", offset, offset+rows-1)
	}
	if total >= 0 {
		all = strconv.FormatInt(total, 10)
	}
	r.echo.Response().Header().Set("Content-Range", part+"/"+all)
}

// send writes the JSON of an answer, as one object where that was asked for.
func (r *request) send(status int, answer result) error {
	if answer.body == nil {
		return refuse(codeAnswer, "The answer is too large", fmt.Sprintf("It would have more than %d bytes.", maxAnswerBytes),
			"Name columns in select, or fewer rows in limit.")
	}
	r.sayApplied()
	media := echo.MIMEApplicationJSONCharsetUTF8
	if r.single {
		media = mediaSingle
	}
	if r.wantsNothing {
		r.echo.Response().Header().Set(echo.HeaderContentType, media)
		return r.echo.NoContent(status)
	}
	body := answer.body
	if r.single {
		body = body[1 : len(body)-1] // of the list of one
	}
	return r.echo.Blob(status, media, body)
}

// sayApplied tells which preferences were followed.
func (r *request) sayApplied() {
	if len(r.applied) > 0 {
		r.echo.Response().Header().Set("Preference-Applied", strings.Join(r.applied, ", "))
	}
}
