// The printed address contains the token after '#': remove it from the address bar and send it as the form would.
"use strict";
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  document.getElementById("token").value = token;
  document.getElementById("sign-in").submit();
}
